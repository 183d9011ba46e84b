"""What a file says that deals with tensors of torch, though it may import nothing: apart, for every file is asked."""

TENSOR_WORDS = (b"torch", b"detach", b"requires_grad", b"register_hook")
