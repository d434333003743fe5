"""Numbers and tables from written predictions."""
