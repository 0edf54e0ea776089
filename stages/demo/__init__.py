"""The method in pictures, on one drawn frame or on an image of the user's own, with the committed weights."""
