"""How the program itself is called and installed: for hints that users copy into their shell."""
