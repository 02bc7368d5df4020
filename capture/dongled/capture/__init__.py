"""Where pictures come from: a test picture, a file, a camera. One file each, one interface."""
