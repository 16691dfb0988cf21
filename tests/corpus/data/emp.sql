insert into emp (name, age, location, salary, manager) values
    ('sharon', 25, '(15,12)', 1000, 'sam'),
    ('sam', 30, '(10,5)', 2000, 'bill'),
    ('bill', 20, '(11,10)', 1000, 'sharon');
