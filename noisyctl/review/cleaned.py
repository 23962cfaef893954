"""The form of the folder that apply writes and revert removes; apart from both, for help waits for nothing heavy."""

from noisyctl.artifacts import files

CLEANED = files.Folder("labels that apply cleaned")
