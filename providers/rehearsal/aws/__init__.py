"""AWS on loopback: moto's server application, with what EC2 does and moto does not put around it."""
