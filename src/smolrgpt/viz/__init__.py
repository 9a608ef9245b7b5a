"""Images and plots for people: regions drawn on images, galleries of samples, and plots with matplotlib."""
