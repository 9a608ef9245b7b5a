"""The HTTP service: an OpenAI-compatible gateway, and engines that answer requests together."""
