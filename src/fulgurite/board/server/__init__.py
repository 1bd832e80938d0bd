"""The HTTP server of the page. Imports neither torch nor transformers."""
