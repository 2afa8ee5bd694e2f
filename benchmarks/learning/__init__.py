"""The learning library beside TRL: the same model folder, ids, order and batches, in one sitting."""
