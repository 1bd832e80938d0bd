"""`python -m fulgurite.sweep`: writes what is generated from the list of spaces."""

from fulgurite.sweep.write import main

if __name__ == "__main__":
    main()
