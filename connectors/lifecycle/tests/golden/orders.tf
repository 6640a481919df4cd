# A bucket has one such resource: where there is one already, move the rules there.
# shop.orders: only files with the tag lakehead-tier=order_retention move, so that the log never does
# shop.orders: rows expire after 2555 days by the table's owner, with a delete and a vacuum; no rule of the bucket deletes live files
# shop.orders: vacuum after 14 days is the table owner's
# shop.orders: the copy in `dr_bucket` is not made by these rules
# logs.compacted: only files with the tag lakehead-tier=log_retention move, so that the log never does
# logs.compacted: rows expire after 730 days by the table's owner, with a delete and a vacuum; no rule of the bucket deletes live files
resource "aws_s3_bucket_lifecycle_configuration" "lakehead_shop" {
  bucket = "acme-lake"

  rule {
    id     = "lakehead:shop:shop.orders:1"
    status = "Enabled"

    filter {
      and {
        prefix                   = "tables/shop/orders/"
        object_size_greater_than = 131072
        tags = {
          "lakehead-tier" = "order_retention"
        }
      }
    }

    transition {
      days          = 90
      storage_class = "STANDARD_IA"
    }
  }

  rule {
    id     = "lakehead:shop:shop.orders:2"
    status = "Enabled"

    filter {
      prefix = "tables/shop/orders/"
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  rule {
    id     = "lakehead:shop:logs.compacted:1"
    status = "Enabled"

    filter {
      and {
        prefix                   = "raw/logs/compacted/"
        object_size_greater_than = 131072
        tags = {
          "lakehead-tier" = "log_retention"
        }
      }
    }

    transition {
      days          = 30
      storage_class = "STANDARD_IA"
    }

    transition {
      days          = 90
      storage_class = "GLACIER_IR"
    }

    transition {
      days          = 365
      storage_class = "GLACIER"
    }
  }

  rule {
    id     = "lakehead:shop:logs.compacted:2"
    status = "Enabled"

    filter {
      prefix = "raw/logs/compacted/"
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}
