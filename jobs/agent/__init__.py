"""The program that is sent to the machine (designs/0002). Nothing here is imported on the controller but its text."""
