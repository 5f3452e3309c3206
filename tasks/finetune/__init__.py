"""Room `finetune`: rendered rows → `data/model/`."""
