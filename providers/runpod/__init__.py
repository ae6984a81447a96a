"""RunPod: pods by its REST API v2, prices and balance by GraphQL where v2 has none."""
