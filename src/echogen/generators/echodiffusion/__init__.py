"""EchoDiffusion: a cascade of video diffusion models, steered by an ejection fraction."""
