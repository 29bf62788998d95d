"""An ECG as one window of video sees it: pieces as they arrive, beats, features per frame, the expected outline of the cavity."""
