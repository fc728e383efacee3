"""What an examination says: verdict, tables, figures, a page; ``run.examine`` makes one."""
