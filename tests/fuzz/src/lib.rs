//! Fuzz targets for every decoder.
