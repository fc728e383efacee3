"""Images as tensors: scikit-learn's digits, CIFAR, folders of pictures."""
