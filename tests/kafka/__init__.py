"""The connector and the job on Apache Kafka itself, and on a second server of its protocol."""
