"""ECHOPulse: masked transformers over video tokens, steered by an ECG; the shipped default, the paper's and the published one."""
