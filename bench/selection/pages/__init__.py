"""The page of a race: its sentences, tables and charts. Start with ``document.write``."""
