"""The synthetic headset: wearers made from a face rig, performed and rendered to images with exact labels."""
