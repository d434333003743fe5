"""What is shown of a run while it goes: TensorBoard, W&B, MLflow, trackio."""
