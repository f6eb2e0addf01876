"""The rooms of vitjax: the packages, and which of them may import which."""

# The rooms from the ground up: a room imports only rooms that stand before it here. A new room is
# entered here.
ROOMS = (
    *("core", "config", "figures", "nn", "models", "optim", "losses", "metrics", "data"),
    *("objectives", "meta", "weights", "parallel", "training", "tasks", "analysis"),
    *("report", "cli", "__main__"),
)
