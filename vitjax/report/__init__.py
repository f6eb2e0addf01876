"""The page about a run, or about several: one HTML file that needs nothing else.

`vitjax.report.writing.report` writes it for folders of runs, and `vitjax.report.training.train`
trains and writes it at the end. What is shown of a run's kind, its task declares
(`vitjax.training.task.Task.parts`); this room draws it.
"""
