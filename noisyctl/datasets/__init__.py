"""Images and labels as arrays; one file a data set."""
