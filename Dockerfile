FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1

# The uid is fixed, so that an exports volume fits every later image.
RUN useradd --uid 10001 --user-group --no-create-home csv-export \
    && install -d -o csv-export -g csv-export /srv/exports

# The dependencies alone first: this layer lasts until setup.cfg changes.
WORKDIR /tmp/build
COPY setup.cfg ./
RUN python -c "import configparser as c; p = c.RawConfigParser(); p.read('setup.cfg'); print(p['options']['install_requires'])" \
        >requirements.txt \
    && pip install --no-cache-dir -r requirements.txt
COPY . .
RUN pip install --no-cache-dir . && rm -rf /tmp/build

WORKDIR /srv
USER csv-export
ENV HOST=0.0.0.0
VOLUME /srv/exports
EXPOSE 8080
ENTRYPOINT ["csv-export"]
CMD ["serve"]
