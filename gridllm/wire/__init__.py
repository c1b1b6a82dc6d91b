"""What crosses between machines: messages, frames and tensors; every field commented."""
