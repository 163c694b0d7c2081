"""Self-contained HTML reports: markup, charts, the page around them, and the reports themselves."""
