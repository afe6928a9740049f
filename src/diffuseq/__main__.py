"""`python -m diffuseq`, which torchrun and `accelerate launch` start: the same as the command `diffuseq`."""

from diffuseq.cli import main

if __name__ == "__main__":
    main()
