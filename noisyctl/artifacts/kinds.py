"""The kinds of artifacts: what each holds. docs/artifacts.md is made from this file."""

from noisyctl.artifacts.store import Array, Kind

IMAGES = Kind(
    "images",
    2,
    "Images of every split, as uint8, with stable ids. Nothing in it depends on a label: no path, no class, no order.",
    {
        "train": Array("uint8", ("sample", "y", "x", "channel"), "training images", optional=True),
        "train_id": Array(
            "str", ("sample",), "official index; of own files 16 hex digits of their sha256, and sorted"
        ),
        "train_checksum": Array(
            "uint32", ("sample",), "CRC-32 of the file, where images stay in files", optional=True
        ),
        "<split>_id": Array("str", ("<split>_sample",), "likewise", optional=True),
        "<split>_checksum": Array("uint32", ("<split>_sample",), "likewise", optional=True),
        "<split>": Array(
            "uint8",
            ("<split>_sample", "y", "x", "channel"),
            "images of a further split: test, val",
            optional=True,
        ),
    },
    {
        "mean": "per channel, 0 to 1, as views subtract it",
        "std": "per channel, as views divide by it",
        "views": "name of the view recipe, or the recipe itself",
        "image_size": "pixels a side, where images stay in files",
    },
    "noisyctl prepare-data",
)
PATHS = Kind(
    "paths",
    1,
    "Where the images of own folders, manifests and large sets lie, in the order of images.zarr. People see paths; "
    "label-free stages do not depend on them.",
    {"<split>_path": Array("str", ("<split>_sample",), "relative to the root, with /", optional=True)},
    {},
    "noisyctl prepare-data",
)
TRUTH = Kind(
    "truth",
    1,
    "Clean training labels and all test labels. Only inject-noise and evaluate read it.",
    {
        "clean_labels": Array("int64", ("sample",), "of the training images", optional=True),
        "<split>_labels": Array("int64", ("<split>_sample",), "of a further split: test, val", optional=True),
    },
    {"class_names": "of the labels"},
    "noisyctl prepare-data",
)
LABELS = Kind(
    "labels",
    1,
    "The labels that training sees, and nothing that tells how they came about.",
    {
        "noisy_labels": Array("int64", ("sample",), "given label"),
        "train_id": Array("str", ("sample",), "id of the sample, where there are no images", optional=True),
    },
    {"class_names": "of the labels"},
    "noisyctl inject-noise",
)
VERIFIED = Kind(
    "verified",
    1,
    "Training samples whose labels the user has checked.",
    {
        "index": Array("int64", ("verified",), "position in the training set"),
        "verified_labels": Array("int64", ("verified",), "label, taken as right"),
    },
    {"class_names": "of the labels"},
    "noisyctl inject-noise --verified-per-class N",
)
NOISE = Kind(
    "noise",
    1,
    "What was done to the labels. Only evaluate reads it.",
    {
        "transition_matrix": Array("float64", ("clean_class", "noisy_class"), "realised: P(noisy | clean)"),
        "is_mislabeled": Array("bool", ("sample",), "noisy label differs from the clean one"),
    },
    {
        "noise": "kind",
        "nominal_rate": "as asked for, none where nothing was",
        "measured_rate": "share of wrong labels",
        "convention": "the params beside rate and file",
        "seed": "",
    },
    "noisyctl inject-noise",
)
FEATURES = Kind(
    "features",
    1,
    "Outputs of an encoder on plain views; the L2 norm is not applied.",
    {
        "features": Array("float32", ("sample", "feature"), "backbone output"),
        "embeddings": Array(
            "float32",
            ("sample", "embedding"),
            "output of a projection head, where there is one",
            optional=True,
        ),
        "<split>_features": Array(
            "float32", ("<split>_sample", "feature"), "backbone output of a further split", optional=True
        ),
        "<split>_embeddings": Array(
            "float32", ("<split>_sample", "embedding"), "output of its projection head", optional=True
        ),
    },
    {
        "encoder": "that came trained (`noisyctl embed`)",
        "weights": "package and version, or the sha256 of a file",
        "image_size": "pixels a side of the encoder's input",
    },
    "noisyctl pretrain-simclr",
)
NEIGHBORS = Kind(
    "neighbors",
    1,
    "Nearest neighbors of every training image, by decreasing similarity, without the image itself.",
    {
        "indices": Array("int32", ("sample", "neighbor"), "position in the training set"),
        "similarity": Array("float32", ("sample", "neighbor"), "cosine"),
    },
    {"k": "", "space": "embeddings or features", "metric": "", "engine": "", "recall": "1.0 when exact"},
    "noisyctl mine-knn",
)
TRACE = Kind(
    "trace",
    1,
    "What a run did, epoch by epoch. Truth is not needed to make it.",
    {
        "train_id": Array("str", ("sample",), "id of the training sample"),
        "noisy_labels": Array("int64", ("sample",), "given label"),
        "losses": Array(
            "float32",
            ("epoch", "sample"),
            "per-sample loss",
            optional=True,
            also=("epoch", "network", "sample"),
        ),
        "clean_probability": Array(
            "float32",
            ("epoch", "sample"),
            "that the given label is right",
            optional=True,
            also=("epoch", "network", "sample"),
        ),
        "selected": Array(
            "bool",
            ("epoch", "sample"),
            "trained on as clean: a verdict on the given label",
            optional=True,
            also=("epoch", "network", "sample"),
        ),
        "learned_from": Array(
            "bool",
            ("epoch", "sample"),
            "trained on, where those left out are not called wrong by it",
            optional=True,
            also=("epoch", "network", "sample"),
        ),
        "verdict": Array(
            "uint8", ("epoch", "sample"), "0 clean, 1 relabel, 2 out of distribution", optional=True
        ),
        "pseudo_labels": Array("int32", ("epoch", "sample"), "label the method would give", optional=True),
        "train_predictions": Array("int32", ("epoch", "sample"), "predicted class", optional=True),
        "train_probabilities": Array("float32", ("sample", "class"), "last epoch, plain view", optional=True),
        "validation": Array("bool", ("sample",), "held out: its noisy label validates", optional=True),
        "validation_predictions": Array(
            "int32", ("epoch", "validation_sample"), "predicted class of the held-out samples", optional=True
        ),
        "<split>_predictions": Array(
            "int32",
            ("epoch", "<split>_sample"),
            "predicted class; -1 in an epoch that was not tested",
            optional=True,
        ),
        "<split>_predictions_of_<name>": Array(
            "int32",
            ("epoch", "<split>_sample"),
            "of a further classifier of the method: network2, prototypes; -1 where it has none yet",
            optional=True,
        ),
        "<split>_top5": Array(
            "int32",
            ("epoch", "<split>_sample", "place"),
            "five likeliest classes, of more than 20",
            optional=True,
        ),
        "<split>_probabilities": Array("float32", ("<split>_sample", "class"), "last epoch", optional=True),
        "scalar_<name>": Array("float64", ("epoch",), "one number an epoch", optional=True),
    },
    {"method": "", "class_names": "of the labels"},
    "noisyctl train-method NAME",
)
KINDS = (IMAGES, PATHS, TRUTH, LABELS, VERIFIED, NOISE, FEATURES, NEIGHBORS, TRACE)
BY_NAME = {kind.name: kind for kind in KINDS}
