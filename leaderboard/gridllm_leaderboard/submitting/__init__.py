"""What an author does: looks at the model, enters it, brings its files, pays the fee."""
