"""Using a trained model: loading it, enhancing files, folders and test sets."""
