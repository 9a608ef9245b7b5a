"""The ``smolrgpt`` command: one file for each group of commands. Nothing else in the package imports from here."""
