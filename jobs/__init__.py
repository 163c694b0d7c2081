"""The doors: one file a command, thin: parse, call a pipeline, print, exit status."""
