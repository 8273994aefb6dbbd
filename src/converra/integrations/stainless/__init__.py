"""The request seam, stream tap and raw results that Stainless-generated SDKs share."""
