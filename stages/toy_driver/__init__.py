"""Training of the committed small driver (models/driver), 80 minutes: `pool` has the data, `phases` what is learned."""
