"""A given still carried along the heart's motion: the pixels stay the patient's, the ECG and the ejection fraction move them."""
