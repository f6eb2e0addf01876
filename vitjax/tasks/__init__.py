"""What a person does with a run, per kind of task."""
