from django.db import migrations

FILL = """
    INSERT INTO batches_share (number, batch_id, queue_id, whole)
    SELECT number, id, queue_id, true FROM batches_batch
"""


class Migration(migrations.Migration):
    """What was submitted before has all its tasks in the queue of its batch."""

    dependencies = [
        ("batches", "0008_shares"),
    ]

    operations = [
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
