"""The commands of `artstorefs`, a module each; see `command_line` for what a module offers."""
