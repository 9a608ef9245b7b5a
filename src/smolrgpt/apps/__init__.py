"""Applications around the Predictor: the web page and the HTTP service."""
