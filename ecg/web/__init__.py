"""The workbench: a server, and a page to look at recordings and review labels."""
