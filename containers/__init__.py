"""The images, built and run by Podman on this machine."""
