"""Files of weights: safetensors, npz, PyTorch's, ONNX."""
