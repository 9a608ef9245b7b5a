"""Reports: their content as a document, written as Markdown and as one HTML page."""
