"""Who carries out the trainings of a race: processes on this machine, or a Ray cluster. Start with ``here``."""
