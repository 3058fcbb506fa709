"""One data set, one model: fine-tuned, evaluated and exported. Works without ``bench``."""
