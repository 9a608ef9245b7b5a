"""Images and plots for display: regions drawn on images, galleries of samples, and plots with matplotlib."""
