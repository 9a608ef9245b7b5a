"""Inference: from inputs of any form to answers, with one engine for single questions, data sets, page and service."""
