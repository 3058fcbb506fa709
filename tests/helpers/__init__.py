"""What several tests share: made-up records, rows and audits, and how a command is run."""
