"""Write docs/artifacts.md from noisyctl/artifacts/kinds.py."""

from pathlib import Path

from noisyctl.artifacts.kinds import KINDS


def text() -> str:
    lines = [
        "# Artifacts",
        "",
        "Made by `python docs/make_artifacts.py`. Zarr v3 groups; see noisyctl/artifacts/store.py.",
        "",
    ]
    for kind in KINDS:
        lines += [
            f"## {kind.name}.zarr (version {kind.version})",
            "",
            kind.purpose,
            "",
            f"Made by `{kind.made_by}`.",
            "",
        ]
        lines += ["| array | type | dimensions | meaning |", "| --- | --- | --- | --- |"]
        for name, a in kind.arrays.items():
            optional = " (where it applies)" if a.optional else ""
            dims = " or ".join("`" + ", ".join(form) + "`" for form in (a.dims, a.also) if form)
            lines.append(f"| `{name}` | {a.dtype} | {dims} | {a.meaning}{optional} |")
        lines.append("")
        if kind.attributes:
            lines += [
                "Attributes: "
                + "; ".join(f"`{k}`{' ' + v if v else ''}" for k, v in kind.attributes.items())
                + ".",
                "",
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    Path(__file__).with_name("artifacts.md").write_text(text())
