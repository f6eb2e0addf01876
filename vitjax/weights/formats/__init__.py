"""File formats of weights: safetensors, npz, PyTorch, ONNX."""
