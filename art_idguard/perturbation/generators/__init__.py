"""Networks that make a perturbation from a face: ResNet, U-Net, transformer."""
